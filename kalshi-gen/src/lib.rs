//! Generates the Kalshi client from the OpenAPI document of the Trade API.
