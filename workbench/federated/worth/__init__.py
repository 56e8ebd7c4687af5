"""Should my institution join? Each site's arms, their differences, and the verdict."""
