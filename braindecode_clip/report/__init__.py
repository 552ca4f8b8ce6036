"""Everything a study found, as one HTML page that needs nothing but itself."""
