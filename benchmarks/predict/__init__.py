"""``bench predict``: predicts a bundle's speed on other devices from its graphs and published peak rates."""
