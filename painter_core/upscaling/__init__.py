"""Pictures -> larger pictures: Pillow's Lanczos filter, or a super-resolution network of the user's."""
