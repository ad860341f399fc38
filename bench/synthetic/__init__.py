"""What `bench.bridge` needs: an engine without a model, real worker processes around it, and the API's end."""
