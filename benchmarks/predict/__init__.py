"""Predicted speed of a bundle on devices that are not at hand: what its graphs do against peak rates."""
