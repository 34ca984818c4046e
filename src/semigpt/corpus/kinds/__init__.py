"""Kinds of files whose text is inside something: mark-up, subtitles, documents, archives.

limits         how much a file may unpack to
prose          what a document is in such a file: the file, a paragraph, a line
html_pages     .html     markdown_files  .md      subtitles  .srt, .smi
json_files     .json     conversations   chat and instruction rows, as plain text
packages       ZIP files of XML: .docx, .hwpx, .epub
hwp, pdf       .hwp, .pdf
archives       .zip, .tar: members as files of a folder
readers        a reader for each ending
"""
