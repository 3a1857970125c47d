"""Pictures or codes -> an HTML page: jobs/make_gallery.py."""
