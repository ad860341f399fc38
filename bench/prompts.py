"""What benchmarks ask about: different enough that no prefix cache helps, alike in length."""

TOPICS = (
    "rivers", "bridges", "clocks", "bread", "winter", "maps", "lighthouses", "gardens", "ships", "music", "glass",
    "mountains", "letters", "trains", "honey", "stars", "paper", "wool", "salt", "copper", "harbours", "windmills",
    "markets", "kites", "wells", "forests", "cheese", "stone", "ink", "silk", "bells", "ropes",
)  # fmt: skip
