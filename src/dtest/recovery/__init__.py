"""What happens after a fault, a loss, a refusal or a request to stop. Pure."""
