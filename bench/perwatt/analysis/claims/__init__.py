"""Claims that vendors and others print, judged by data sheets, published rows and measured rows, each by itself."""
