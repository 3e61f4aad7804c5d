"""Backs the database up: one snapshot, one dump, restored once before it counts."""
