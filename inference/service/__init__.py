"""A gallery behind HTTP: routes, access, uploads, requests of many clients in one batch, the gallery, the page."""
