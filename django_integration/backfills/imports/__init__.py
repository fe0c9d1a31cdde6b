"""History from the tables of other tools, whose packages need not be installed any more.

``tables.py`` reads rows of any table by ranges of its primary key; ``payload.py`` makes storable
fields of whatever JSON a row holds; ``orbit.py`` and ``silk.py`` know what each row means. None
of them imports the tool: a table's columns are what the database says they are.
"""
