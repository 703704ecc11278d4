"""Who a client is: the accounts, and the acceptor of SPNEGO and NTLM."""
