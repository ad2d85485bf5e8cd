"""The community's prompt language, as AUTOMATIC1111's web UI made it and others read it.

A prompt is read in stages, each a file here: `styles` and `template` leave one text without chance in it; `parse` finds
what changes over the steps (`tree`); `schedule` says which text is active at a step; `emphasis` weighs its words; and
`chunks` lays their tokens out in windows.
"""
