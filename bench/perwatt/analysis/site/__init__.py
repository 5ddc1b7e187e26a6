"""What a power budget buys (docs/site.md): rows, sheets and prices into chips, tokens, dollars and CO2 of a site."""
