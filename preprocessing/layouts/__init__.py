"""What lies where: NODDI, BIDS and layouts of your own, as recordings. Opens no data.

Call `selection.select_recordings`, which knows all layouts.
"""
