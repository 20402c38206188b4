"""How models are fitted: by gradient steps, ridge in closed form, ensembles of trained runs."""
