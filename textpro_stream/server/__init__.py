"""The network side: the WebSocket routes, the page, health and metrics, the MQTT bridge."""
