"""The profiles of a household and the first config of a child."""
