"""The seven sections of the newsroom, one file each: their stories, sentence by sentence."""
