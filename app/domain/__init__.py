"""The rules of viewing time as pure functions of values and instants: no clock, no waiting, no input or output."""
