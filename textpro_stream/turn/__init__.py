"""Voice activity, endpointing, barge-in: who is speaking, and is the turn over?"""
