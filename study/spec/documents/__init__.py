"""The files that stages hand on, as declared types: keys and kinds of values, with the version of each format.

One module per file, and ``reading`` for all. Contents stay plain JSON values, so any process can use them.
``reading.read`` checks a file when it is read, and mypy checks each key that the code uses. A file of another version
is refused: other code wrote it. TypedDict comes from typing_extensions because pydantic needs that on Python 3.11.
"""
