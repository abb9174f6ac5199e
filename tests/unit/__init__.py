"""Tests of one room alone, in the folder of its name. They need neither Redis nor threads."""
