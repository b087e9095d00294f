"""Networks whose containers are attached by CNI plugins."""
