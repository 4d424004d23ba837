"""What training and evaluation see: labelled pictures, sequences made of them, maps, and what makes them harder."""
