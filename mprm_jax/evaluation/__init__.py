"""How good labels are: measures, benchmark rules, pictures."""
