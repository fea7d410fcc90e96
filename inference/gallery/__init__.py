"""The files of an embedded gallery: while they are computed, when they are complete, and the indices beside them."""
