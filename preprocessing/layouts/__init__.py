"""What lies where: NODDI, BIDS and layouts of your own, as recordings."""
