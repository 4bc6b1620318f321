select month from {{ ref('revenue') }} where revenue is null
