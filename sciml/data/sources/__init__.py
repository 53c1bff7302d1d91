"""What files hold, whatever their format: named arrays, parts, groups, packed numbers, samples."""
