"""A plugin: chunks of a few images, so that a small gallery has several."""

from inference.gallery import chunks

chunks.CHUNK_LENGTH = 5
