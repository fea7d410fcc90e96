"""From the configuration tree to plain arguments of everything below."""
