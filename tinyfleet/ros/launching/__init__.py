"""What the files in launch/ share: arguments, nodes, their bring-up by events, an ordered shutdown.

Launch files are loaded by path, from a checkout or from an installed share folder, and cannot
import their neighbours; this package they can, wherever the nodes themselves can be started.
"""
