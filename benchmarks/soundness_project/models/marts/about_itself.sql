select
    '{{ this.identifier }}' as me,
    '{{ model.description }}' as description,
    '{{ config.get("meta", {}).get("owner", "nobody") }}' as owner,
    {{ described_columns() }} as columns
