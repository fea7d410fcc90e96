"""Networks that turn images into feature maps, chosen by name."""
