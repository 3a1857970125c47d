"""Tests of painter_core.upscaling."""
