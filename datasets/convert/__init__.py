"""Converters: releases of detection and tracking data, as downloaded, to folders in Market-1501 layout."""
