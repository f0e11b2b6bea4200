"""Who calls and what they may do: tokens, passwords and PINs, parent devices, lockout."""
