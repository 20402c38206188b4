"""Experiments about the method. Run by hand or by `make study`; nothing imports them."""
