"""Model name -> verified local folder."""
