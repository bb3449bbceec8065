"""What stands between the network and the routes: limits, who may ask, what the service may ask of others."""
