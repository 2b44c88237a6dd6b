"""Who is who: certificates, the folders that hold them, and the channels that use them.

`authority` needs the extra [tls]; everything else does with what an agent has.
"""
