"""An OpenAI-compatible server for one's own models; needs the extra `semigpt[serve]`."""
