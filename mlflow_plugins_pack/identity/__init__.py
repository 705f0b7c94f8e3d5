"""Who a server's caller is: verified claims and contexts only, shared by the plugins."""
