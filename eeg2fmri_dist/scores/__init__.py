"""Scores of predicted volumes: plain functions on arrays, used in training and evaluation."""
