"""The report: a published schema, tables made from it, and one offline HTML folder. Needs no torch."""
