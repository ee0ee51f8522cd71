"""The MQTT publisher: what changes in the segments goes to a broker, and to disk while there is none."""
