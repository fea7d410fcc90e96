"""Weight files of other projects and of backbones alone: what they are, and how they fill our network."""
