"""A GPU shared by the workers of its machine: one process holds the model and computes, the others read, decode and ask it.

A GPU embeds thousands of pictures a second; a processor's core decodes hundreds. So one card wants the rows of a dozen
processes, gathered into batches of one fixed shape: `lanes` gathers, `engine` computes, `server` is the process around both,
`client` what a worker holds of it, `wire` what they say to each other over a socket of this machine.
"""
