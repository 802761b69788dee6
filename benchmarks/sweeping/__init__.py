"""Configurations of every canonical layer, drawn from the product of what users choose, and what the frameworks make
of them."""
