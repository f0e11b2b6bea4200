"""The profiles of a household: who watches, and with which settings a child begins."""
