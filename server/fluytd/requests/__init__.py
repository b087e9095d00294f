"""Request ids: a retry gets the first answer. `service.py` has the rules, fluytd.state keeps the answers."""
