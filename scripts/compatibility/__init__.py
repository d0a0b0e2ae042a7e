"""What the service does with every method and field of the API, found out by calling it.

``tour`` calls each method, with a request that is right and with ones that are wrong in one field;
``resources`` creates resources and looks at what is shown of them; ``told`` knows the little that
cannot be seen so; ``page`` writes it down. A field about which nothing is known ends the program.
"""
