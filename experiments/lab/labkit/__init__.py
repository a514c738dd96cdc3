"""The parts of the rehearsal stack; ../lab is its command."""
